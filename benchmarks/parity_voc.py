"""Compare Pascal VOC's metric with VOCdevkit's own MATLAB code, unchanged, which GNU Octave runs."""

import dataclasses
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project

import average_precision
import voc_cases
from media import images
from results import comp4, detection_files
from results.data_set import DataSet
from structures import UserError

CASES = 500
TOLERANCES = {"difference": 1e-9}
SPLIT, CODE, FOUND = "test", "VOCcode", "found"
AREA, POINTS = "area", "11 points"
STEP, UNDEFINED = "step", "undefined"
NOTE = f"""\
Pascal VOC's AP here and by VOCdevkit's own VOCevaldet.m, unchanged, in GNU Octave, from the same files of {CASES}
random cases with difficult objects, equal scores and equal overlaps. Allowed: {TOLERANCES["difference"]:g}. The
11 points of the devkit are 0:0.1:1 in floating point. Its fourth is 0.30000000000000004, which an exact recall of
0.3 does not reach; here integers are compared (10 · true with 3 · objects). Figures on such a step are compared at the
devkit's points. Undefined: each detection hit a difficult object; the devkit gives NaN, this project 0. Left out:
classes without objects, which have no AP here, and objects a pixel wide or high, which are empty boxes here."""
# A devkit's VOCinit.m names folders, which users change: here they are those of the cases. Some versions call toc
# before tic
PROGRAM = f"""
warning('off', 'all');  % of old functions
values = argv();
addpath(values{{1}});
output = fopen(values{{3}}, 'w');
input = fopen(values{{2}});
cases = textscan(input, '%s %s', 'Delimiter', '\\t');
tic;
for i = 1:numel(cases{{1}})
  folder = cases{{1}}{{i}};
  VOCopts = struct('testset', '{SPLIT}', 'minoverlap', 0.5);
  VOCopts.imgsetpath = [folder '/ImageSets/Main/%s.txt'];
  VOCopts.annopath = [folder '/Annotations/%s.xml'];
  VOCopts.detrespath = [folder '/{FOUND}/%s_det_{SPLIT}_%s.txt'];
  VOCopts.annocachepath = [folder '/%s_anno.mat'];
  [recall, precision, ap] = VOCevaldet(VOCopts, 'comp4', cases{{2}}{{i}}, false);
  fprintf(output, '%.17g\\n', ap);
end
fclose(output);
"""
XML = (
    "<annotation><folder>VOC</folder><filename>{key}.jpg</filename><source><database>random</database>"
    "<annotation>random</annotation><image>none</image></source><size><width>{width}</width><height>{height}</height>"
    "<depth>3</depth></size><segmented>0</segmented>{objects}</annotation>"
)
OBJECT = (
    "<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>{difficult}</difficult>"
    "<bndbox><xmin>{box[0]!r}</xmin><ymin>{box[1]!r}</ymin><xmax>{box[2]!r}</xmax><ymax>{box[3]!r}</ymax></bndbox>"
    "</object>"
)


def code_of(folder):
    """The path of a devkit's VOCcode. Raises UserError."""
    code = pathlib.Path(folder, CODE).resolve()
    if not (code / "VOCevaldet.m").is_file():
        raise UserError(f"{folder}: has no {CODE}/VOCevaldet.m; give the folder of a VOCdevkit")
    return code


def kind(folder):
    """What a devkit's AP is: an area since 2010, the mean at 11 points before."""
    return AREA if (code_of(folder) / "VOCap.m").is_file() else POINTS


def octave():
    """The path of Octave. Raises UserError without it."""
    if path := shutil.which("octave-cli") or shutil.which("octave"):
        return path
    raise UserError("no Octave to run VOCevaldet.m with; install it, on Debian with apt-get install octave")


def compare(folder, cases=CASES):
    """A devkit's AP of random cases and this project's, from the same files.

    -> {"images", "figures": how many were compared, "difference": the largest, "on_a_step", "undefined": how many
    of them are}, as NOTE says.
    """
    code = code_of(folder)
    with tempfile.TemporaryDirectory() as scratch:
        count, asked = write_cases(pathlib.Path(scratch), cases)
        theirs = run(code, pathlib.Path(scratch), [(place, curve.name) for place, curve in asked])
    judge = of_area if kind(folder) == AREA else of_eleven_points
    found = [judge(curve, value) for (_, curve), value in zip(asked, theirs, strict=True)]
    return {
        "images": count,
        "figures": len(found),
        "difference": float(np.max([difference for difference, _ in found])),  # NaN if one is NaN
        "on_a_step": sum(reason == STEP for _, reason in found),
        "undefined": sum(reason == UNDEFINED for _, reason in found),
    }


def write_cases(scratch, cases):
    """(number of images, list of (folder, ClassCurve)) of random cases, which this project reads from their files."""
    rng, count, asked = np.random.default_rng(27), 0, []
    for case in range(cases):
        truth, found, names = for_devkit(*voc_cases.random_case(rng))
        if not truth:
            continue
        place = scratch / f"case{case}"
        write(place, truth, found, names)
        data = DataSet(place, SPLIT)
        read = detection_files.read(str(place / FOUND), names, data).detections
        curves = average_precision.precision_recall(data.samples(tuple(names)), read, names)
        asked += [(place, curve) for curve in curves if curve.positives]
        count += len(truth)
    return count, asked


def for_devkit(truth, found, names):
    """A case as VOC's pictures have it: with their names, no box a pixel wide or high, an object in each picture."""
    truth = {key: _without_thin(sample) for key, sample in truth.items()}
    kept = {key: f"2012_{int(key):06d}" for key, sample in truth.items() if len(sample.labels)}
    found = {kept[key]: detections for key, detections in found.items() if key in kept}
    return {new: truth[key] for key, new in kept.items()}, found, names


def _without_thin(sample):
    """Without objects that source_pascal_voc takes for empty ones: in pixels from 1, their edges are equal."""
    full = (sample.boxes_px[:, 2:] > sample.boxes_px[:, :2] + 1).all(axis=1)
    fields = ("boxes", "labels", "difficult")
    return dataclasses.replace(sample, **{field: getattr(sample, field)[full] for field in fields})


def write(folder, truth, found, names):
    """Annotations, the list of pictures and detections as VOCevaldet.m reads them. Arguments as of `evaluate`."""
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    for key, sample in truth.items():
        images.write(folder / "JPEGImages" / f"{key}.jpg", np.zeros((sample.height, sample.width, 3), np.uint8))
        boxes = comp4.to_comp4_px(sample.boxes_px).tolist()
        rows = zip(sample.labels, sample.difficult, boxes, strict=True)
        objects = [OBJECT.format(name=names[label], difficult=int(hard), box=box) for label, hard, box in rows]
        text = XML.format(key=key, width=sample.width, height=sample.height, objects="".join(objects))
        (folder / "Annotations" / f"{key}.xml").write_text(text)
    (folder / "ImageSets" / "Main" / f"{SPLIT}.txt").write_text("".join(f"{key} 1\n" for key in truth))
    with comp4.Writer(folder / FOUND, names) as writer:
        for key in filter(found.__contains__, truth):  # equal scores go by the order of the lines
            writer.add(f"{key}.jpg", truth[key].width, truth[key].height, found[key])


def run(code, scratch, asked):
    """What VOCevaldet gives for each (folder, class), list of floats. Raises UserError."""
    program, cases, output = (scratch / name for name in ("score.m", "cases.txt", "aps.txt"))
    program.write_text(PROGRAM)
    cases.write_text("".join(f"{place}\t{name}\n" for place, name in asked))
    command = [octave(), "--no-gui", "--norc", "--quiet", program, code, cases, output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=scratch)
    if done.returncode:
        raise UserError(f"{code}: VOCevaldet.m ended with {done.stderr.strip()}")
    return [float(line) for line in output.read_text().split()]


def of_area(curve, theirs):
    """(difference, None) of one figure of the devkit."""
    return abs(curve.area - theirs), None


def of_eleven_points(curve, theirs):
    """(difference, STEP, UNDEFINED or None) of one figure of the devkit.

    Where an exact recall misses one of its points (NOTE), ours is taken at the same points. Where each detection hit a
    difficult object it gives NaN, 0/0; ours is 0.
    """
    if np.isnan(theirs):
        ignored = len(curve.verdicts) and (curve.verdicts == average_precision.IGNORED).all()
        return (0.0 if ignored else np.inf), UNDEFINED
    reached = [curve.precision[curve.recall >= step].max(initial=0) for step in np.arange(11) * 0.1]
    stepped = sum(reached) / 11
    on_step = abs(stepped - curve.voc07) > TOLERANCES["difference"]
    return abs((stepped if on_step else curve.voc07) - theirs), STEP if on_step else None
