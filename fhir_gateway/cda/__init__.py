"""The door of CDA documents: POST /cda and POST /cda/soap."""
