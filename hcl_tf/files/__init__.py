"""Files that are whole or not there: JSON, checksums, locks. Nothing here knows what is in them."""
