"""The one-liners: trained models in, the paper's batches made for them, the plain analysis called.

Each function here only draws batches and hands them to the function of the same name in
``mechft.analysis``; use that one for a model, batch or metric of your own. What is asked (family,
operands, offset) follows the contrast the models were fine-tuned with.
"""
