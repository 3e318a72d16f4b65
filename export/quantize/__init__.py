"""How a file is made smaller, and what that costs."""
