"""Audit: what is recorded of every act, and the arithmetic that proves it later. Pure."""
