"""`writebehind check`: is everything there, allowed and set up as it has to be? Looked at from where it runs."""
