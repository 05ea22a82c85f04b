"""How long, how much memory, up to which length: measured in processes of their own, recorded, drawn, compared."""
