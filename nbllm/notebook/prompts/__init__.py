"""What is typed becomes what is sent."""
