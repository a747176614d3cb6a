"""What an operator asks for by name, apart from how it is asked."""
