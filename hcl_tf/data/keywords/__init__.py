"""Keywords of texts and the graph between them."""
