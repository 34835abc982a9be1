"""Floor 5: the door for HL7 v2 messages over HTTP."""
