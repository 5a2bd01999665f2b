"""What runs in the sandbox when the code of steps is executed. Standard library only; nothing else of stepward."""
