"""Double layers: a block's weight as a product of two or three of low rank."""
