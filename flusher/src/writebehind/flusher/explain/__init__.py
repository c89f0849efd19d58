"""`writebehind explain`: what each entity's strategy means for every column, with the numbers that are configured."""
