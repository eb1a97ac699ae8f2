"""Results → one self-contained HTML file that opens offline: figures, tables, and what they say."""
