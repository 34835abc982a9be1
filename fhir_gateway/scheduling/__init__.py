"""Bookings: schedules, slots, pools, appointments."""
