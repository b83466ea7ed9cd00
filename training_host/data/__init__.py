"""Pictures for the host: folders, zips and transfer sets in, arrays of the network's size out."""
