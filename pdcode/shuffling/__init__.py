"""Reshuffling of the rows among workers: companions of tasks that bring rows."""
