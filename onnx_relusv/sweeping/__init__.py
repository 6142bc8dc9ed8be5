"""The whole curve: many sizes by several methods, each file made and judged."""
