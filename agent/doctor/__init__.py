"""``agent doctor``: finds and explains every inconsistency, and mends what can be mended.

Each module holds a group of checks; a check is a generator of findings and changes nothing.
What mends is in the finding, and is run under the tree's lock.
"""
