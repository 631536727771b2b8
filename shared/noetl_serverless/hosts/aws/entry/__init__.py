"""What Lambda calls: one handler for each function."""
