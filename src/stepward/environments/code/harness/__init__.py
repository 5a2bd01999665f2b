"""What runs in the sandbox when a program is tested: the tester, and the candidate that it questions. Standard library only; nothing else of stepward."""
