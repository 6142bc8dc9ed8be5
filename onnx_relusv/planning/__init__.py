"""Which block or group changes by how much, within the budgets."""
