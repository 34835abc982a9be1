"""Recognition: may an earlier result stand in for an item that is being ordered now?"""
