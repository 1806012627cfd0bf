"""What finished runs give to others: tables, pictures, exported networks, representations as files."""
