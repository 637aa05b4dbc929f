"""UPSNet: one network that gives every pixel a class and every countable object its own mask."""
