"""The contract: what customers are charged and promised, versioned by the hash of its content.

From text to lines, in the order in which a newcomer may read it:

    document.py   the file as a tree that knows its lines
    fields.py     typed values out of it, with every problem collected
    read_*.py, inherit.py, cross_checks.py, loader.py   a whole `Contract`, or all of its errors
    model.py      the contract's values
    shapes/       how a quantity becomes an amount, one shape a file
    pricing.py    `price_period`: a month's quantities to charge lines; quotes and invoices both use it
    advice.py, diff.py, price_list.py   warnings, differences and the price list in words
"""
