"""The work API's wire format."""
