"""The room of `vidrestore bench`: it uses all other rooms but training, and none of them needs it."""
