"""The eight functions of the package, each with its stages in order."""
