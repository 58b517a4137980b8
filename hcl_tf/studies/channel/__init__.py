"""A meter for the channel: whether keywords and negatives reach the text that is made, link by link, at the prior's mean."""
