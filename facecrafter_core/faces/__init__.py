"""Photo -> faces: landmarks, identity, emotion, mask."""
