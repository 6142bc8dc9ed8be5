"""The numbers of what a plan changes, fitted to what the blocks see."""
