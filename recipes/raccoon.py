"""Raccoons: github datitran/raccoon_dataset, 160 photographs to learn from, 40 to be scored on.

With 44 objects in the test split one object is 2.3 points: --seeds 3 tells more than one training.
"""

import recipe

RACCOON = recipe.Recipe(
    name="raccoon",
    classes="raccoon",
    train="train",
    test="test",
    epochs=40,
    valid_every=10,
    expected="About 45 minutes on two cores for each seed. Not yet run to its end.",
)

if __name__ == "__main__":
    recipe.run(RACCOON)
