"""Judge a saved folder: is it, to the byte, what was saved?"""
