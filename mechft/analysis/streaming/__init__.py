"""Statistics that take rows as they come, in constant memory."""
