"""CDS Hooks 2.0: the door through which a workstation asks while a doctor writes an order."""
