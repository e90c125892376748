"""What a kit holds, the script that measures on the device, and what comes back."""
