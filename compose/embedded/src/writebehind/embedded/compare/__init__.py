"""`writebehind compare`: the three strategies under the same load."""
