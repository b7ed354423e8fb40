"""Storage pools and volumes for virtual machines, managed from the shell."""

__version__ = "0.1.0"
