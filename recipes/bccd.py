"""Blood cells in microscope pictures: github Shenggan/BCCD_Dataset, 292 pictures to train on, 72 to score on."""

import recipe

BCCD = recipe.Recipe(
    name="bccd",
    classes="RBC,WBC,Platelets",
    train="trainval",
    test="test",
    epochs=18,
    valid_every=6,
    expected="About 50 minutes on two cores; mean AP 0.86 with 0.1.0.",
)

if __name__ == "__main__":
    recipe.run(BCCD)
