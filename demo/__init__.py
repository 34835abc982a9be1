"""The demonstration: a small city from the files in demo/city, told through the public doors."""
