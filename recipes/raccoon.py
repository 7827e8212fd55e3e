"""Raccoons: github datitran/raccoon_dataset, 160 photographs to learn from, 40 to be scored on.

With 44 objects in the test split one object is 2.3 points: --seeds 3 tells more than one training.
An epoch of so few pictures has few steps, so batches are of 4; conv3 is kept as well, which saves time. The
animals take half their picture in both splits: light augmentation, which neither shrinks nor cuts them, does better
than the original's.
"""

import recipe

RACCOON = recipe.Recipe(
    name="raccoon",
    classes="raccoon",
    train="train",
    test="test",
    epochs=24,
    valid_every=8,
    expected="About 18 minutes on two cores for each seed; AP 0.82 to 0.90.",
    freeze="conv1,conv2,conv3",
    flags=("--batch-size", "4", "--augmentation", "light", "--schedule", "constant", "--ema", "0.99"),
)

if __name__ == "__main__":
    recipe.run(RACCOON)
