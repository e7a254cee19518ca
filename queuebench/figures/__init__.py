"""What it means: arithmetic on records; knows no server and no clock."""
