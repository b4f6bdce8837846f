"""Derive the atlas that ships with the extension from the Allen Human Reference Atlas.

    python training/tools/make_atlas.py ../shared/data/atlases StrokeLesionSeg/Resources/Atlases

Reads ``AllenAtlas_0p5mm.nii.gz`` and ``AllenAtlas.json`` (niivue/niivue-demo-images, commit
f6f9829; the Allen Human Reference Atlas, 3D, 2020, by the Allen Institute for Brain Science,
CC BY 4.0), in the space of MNI152 2009. Takes every second voxel, which are those of our 1 mm grid,
leaves ventricles and canals out, and writes ``allen_human_reference_1mm.npz`` with four arrays,
none of them pickled:

``values`` (K, J, I) uint8, the box that holds labels
``low``    (3,) int64, index (k, j, i) of the box's first voxel on the grid of 197 x 233 x 189
``names``  (142,) str, names by value, empty for what is left out
``voxels`` (142,) int64, number of voxels by value, half of them on either side

Run again only to change the reduction; the result is the same file bit for bit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel
import numpy as np

ORIGIN = np.array([-98, -134, -72])
SHAPE = (189, 233, 197)
# The ontology's names by the abbreviations of the file (Ding et al. 2016).
NAMES = """
OB olfactory bulb; AON anterior olfactory nucleus; Pir piriform cortex; FI frontal agranular
insular cortex; TI temporal agranular insular cortex; CaH head of caudate; CaB body of caudate;
CaT tail of caudate; Pu putamen; NAC nucleus accumbens; GPe globus pallidus, external segment; GPi
globus pallidus, internal segment; Cla claustrum; BF basal forebrain; SEP septal nuclei; AMY
amygdaloid complex; AAA anterior amygdaloid area; CEN amygdala, central nuclear group; La
amygdala, lateral nucleus; BL amygdala, basolateral nucleus; BM amygdala, basomedial nucleus; CoA
amygdala, anterior cortical nucleus; CoP amygdala, posterior cortical nucleus; Me amygdala, medial
nucleus; AHA amygdalohippocampal area; BNST bed nucleus of stria terminalis; THM thalamus; ANC
thalamus, anterior nuclear complex; LD thalamus, lateral dorsal nucleus; MD thalamus, mediodorsal
nucleus; Re thalamus, reuniens nucleus; LP thalamus, lateral posterior nucleus; Pul thalamus,
pulvinar; VA thalamus, ventral anterior nucleus; VL thalamus, ventral lateral nucleus; VPL
thalamus, ventral posterior lateral nucleus; VPM thalamus, ventral posterior medial nucleus; DLG
lateral geniculate nucleus; MG medial geniculate nucleus; CM thalamus, centromedian nucleus; Pf
thalamus, parafascicular nucleus; HN habenular nuclei; Pin pineal body; ZI zona incerta; STH
subthalamic nucleus; HTH hypothalamus; HTHpo hypothalamus, preoptic region; HTHso hypothalamus,
supraoptic region; HTHtub hypothalamus, tuberal region; HTHma hypothalamus, mammillary region; FWM
white matter of forebrain; ac anterior commissure; cc corpus callosum; fx fornix; mtt
mammillothalamic tract; ot optic tract; CBV cerebellar vermis; CbDN cerebellar deep nuclei; HWM
white matter of hindbrain; olt olfactory tract; PrCG precentral gyrus; SFG superior frontal gyrus;
MFG middle frontal gyrus; IFGtr inferior frontal gyrus, triangular part; IFGop inferior frontal
gyrus, opercular part; ReG gyrus rectus; MOrG medial orbital gyrus; AOrG anterior orbital gyrus;
POrG posterior orbital gyrus; LOrG lateral orbital gyrus; PCLr paracentral lobule, rostral part;
FrO frontal operculum; PoCG postcentral gyrus; SPL superior parietal lobule; SMG supramarginal
gyrus; AnG angular gyrus; PrCun precuneus; PCLc paracentral lobule, caudal part; STG superior
temporal gyrus; MTG middle temporal gyrus; ITG inferior temporal gyrus; FuGt fusiform gyrus,
temporal part; TTG transverse temporal gyrus; PLT planum temporale; TP temporal pole; PLP planum
polare; OP occipital pole; Cun cuneus; LiG lingual gyrus; FuGo fusiform gyrus, occipital part; IOG
inferior occipital gyrus; SOG superior occipital gyrus; CgGr cingulate gyrus, rostral part; CgGc
cingulate gyrus, caudal part; IsCPH cingulo-parahippocampal isthmus; SCG subcallosal gyrus; APH
anterior parahippocampal gyrus; PPH posterior parahippocampal gyrus; AG gyrus ambiens; HiH head of
hippocampus; HiB body of hippocampus; HiT tail of hippocampus; LIG long insular gyri; SIG short
insular gyri; LI limen insulae; PTR pretectal region; MTg midbrain tegmentum; RN red nucleus; SN
substantia nigra; SC superior colliculus; IC inferior colliculus; cpd cerebral peduncle; scp
superior cerebellar peduncle; CBPV cerebellar paravermis; CBL lateral hemisphere of cerebellum;
PnBa basal part of pons; PnTg pontine tegmentum; MoPy pyramid of medulla; MoTg tegmentum of
medulla; IO inferior olive; icp inferior cerebellar peduncle; mcp middle cerebellar peduncle; MiN
thalamus, midline nuclear complex; LOG lateral olfactory gyrus; PaO parietal operculum; PuPV
posteroventral putamen; FP frontal pole, with paracingulate, rostral and frontomarginal gyri; PRG
perirhinal gyrus; or optic radiation
"""
# The file has these as one with the frontal pole: its value 138 fills the place of all four.
MERGED = {"PaCG", "RoG", "FMG"}
# Lateral (aLV, bLV, pLV, iLV, xLV), third and fourth ventricle, aqueduct, central canal.
LEFT_OUT = {"Air", "aLV", "bLV", "pLV", "iLV", "xLV", "3V", "4V", "Aq", "cec"}


def full_names() -> dict[str, str]:
    """Names by abbreviation, the first letter large."""
    pairs = (item.split(None, 1) for item in NAMES.replace("\n", " ").split(";"))
    return {short: name.strip()[0].upper() + name.strip()[1:] for short, name in pairs}


def reduce_atlas(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the reduced atlas, see the module's docstring."""
    image = nibabel.load(folder / "AllenAtlas_0p5mm.nii.gz")
    if not np.allclose(image.affine[:3, :3], 0.5 * np.eye(3)):
        raise ValueError("the atlas is not in RAS order at 0.5 mm")
    short = json.loads((folder / "AllenAtlas.json").read_text(encoding="utf-8"))["labels"]
    full = full_names()
    if set(short) - LEFT_OUT - MERGED != set(full):
        raise ValueError(f"names: {set(short) - LEFT_OUT - MERGED ^ set(full)}")
    low = image.affine[:3, 3] - ORIGIN
    if not np.array_equal(low, np.rint(low)) or low.min() < 0:
        raise ValueError("the atlas does not fit our grid by indexing")
    values = np.asarray(image.dataobj).T[::2, ::2, ::2].astype(np.uint8)
    if np.isin(values, [n for n, name in enumerate(short) if name in MERGED]).any():
        raise ValueError("the atlas tells apart what is taken for one here")
    left_out = [n for n, name in enumerate(short) if name in LEFT_OUT]
    values[np.isin(values, left_out)] = 0
    names = np.array([full.get(name, "") for name in short])
    low_kji = low[::-1].astype(np.int64)
    if (low_kji + values.shape > SHAPE).any():
        raise ValueError("the atlas is larger than our grid")
    middle = int(-image.affine[0, 3])
    if not np.array_equal(values[:, :, :middle], values[:, :, :middle:-1][:, :, :middle]):
        raise ValueError("the two hemispheres are no mirror images")
    voxels = np.bincount(values.ravel(), minlength=len(short))
    return {"values": values, "low": low_kji, "names": names, "voxels": voxels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with the atlas and its labels")
    parser.add_argument("folder", type=Path, help="where allen_human_reference_1mm.npz goes")
    arguments = parser.parse_args()
    target = arguments.folder / "allen_human_reference_1mm.npz"
    np.savez_compressed(target, **reduce_atlas(arguments.source))
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
