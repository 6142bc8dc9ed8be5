"""Files in half precision: which nodes stay float32, and the Casts between the two."""
