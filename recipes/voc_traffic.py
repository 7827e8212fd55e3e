"""Traffic in photographs of Pascal VOC2007 (800 of its test pictures): 600 to train on, 200 to score on.

Annotated objects of the other 15 classes are left out.
An epoch of so few pictures has few steps, so batches are of 4; conv3 is frozen too, which saves time.
"""

import recipe

VOC_TRAFFIC = recipe.Recipe(
    name="voc_traffic",
    classes="car,bus,motorbike,bicycle,person",
    train="train",
    test="val",
    epochs=30,
    valid_every=10,
    expected="45 minutes to two hours on two cores; mean AP 0.73 to 0.76.",
    other_classes="ignore",
    video=True,
    freeze="conv1,conv2,conv3",
    flags=("--batch-size", "4", "--class-weights", "auto"),
)

if __name__ == "__main__":
    recipe.run(VOC_TRAFFIC)
