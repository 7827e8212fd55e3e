"""Blood cells in microscope pictures: github Shenggan/BCCD_Dataset, 292 pictures to train on, 72 to score on.

The pictures have no up, so they are flipped too. Their cells have few sizes, to which the anchors are fitted. They
look unlike VGG-16's photographs, so its layers learn at the full rate. In so few steps a warm-up of 100 is long.
"""

import pathlib

import recipe

BCCD = recipe.Recipe(
    name="bccd",
    classes="RBC,WBC,Platelets",
    train="trainval",
    test="test",
    epochs=18,
    valid_every=6,
    expected="About 20 minutes on two cores; mean AP 0.88 after 500 of its 666 steps.",
    freeze="conv1,conv2,conv3",
    fits_anchors=True,
    flags=(
        *("--augmentation", str(pathlib.Path(__file__).with_name("bccd_augmentation.json"))),
        *("--vgg-lr-multiplier", "1"),
        *("--warmup-steps", "25"),
    ),
)

if __name__ == "__main__":
    recipe.run(BCCD)
