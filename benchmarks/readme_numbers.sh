#!/usr/bin/env bash
# The numbers in the README, made again: bash benchmarks/readme_numbers.sh DATA OUT PEERS
# Run it in the checkout, with medseg[test] installed. DATA holds msd_hippocampus (Decathlon Task04), organs_ct
# (TotalSegmentator's example scans) and chaos_ct (a CT of CHAOS). PEERS is the Python of
# an environment made from benchmarks/requirements.txt. About 8 hours on 2 cores, and a day for the last three lines.
set -euo pipefail
data=$1 out=$2 peers=$3
mkdir -p "$out"

time medseg --help > "$out/help.txt"
time pytest
time medseg data check "$data/msd_hippocampus"
python benchmarks/cohort.py "$out/cohort.json"
python benchmarks/cohort.py "$out/cohort_large.json" --cases 20 --spacing 1.5 --alone 3
python benchmarks/annotations.py "$data/chaos_ct/DICOM_anon"
python benchmarks/predict.py "$out/predict" --data "$data" --peers "$peers" --steps 400
python benchmarks/floor.py "$out/predict"
python benchmarks/sweep.py "$out/predict" --data "$data" --model dynunet --classes 2,118 --slices 100 --steps 100
python benchmarks/sweep.py "$out/predict" --data "$data" --model dynunet --classes 118 --slices 1000 --extra="--max-ram 6GB"
python benchmarks/predict.py "$out/predict" --data "$data" --peers "$peers" --classes 20 --ways medseg,monai,nnunet
for classes in 2 20 118; do
    python benchmarks/predict.py "$out/predict" --data "$data" --peers "$peers" --model dynunet --classes "$classes" \
        --ways medseg,monai,nnunet
done
for preset in fast balanced accurate; do
    python benchmarks/predict.py "$out/predict" --data "$data" --peers "$peers" --ways medseg --extra="--preset $preset"
done
medseg demo --out "$out/demo"
python benchmarks/partial.py "$out/partial"

medseg train hippocampus --data "$data/msd_hippocampus" --fold all --out "$out/hippocampus"
python benchmarks/precision.py "$out/hippocampus/fold_0" --data "$data/msd_hippocampus"
medseg train hippocampus_2d --data "$data/msd_hippocampus" --fold 0 --out "$out/hippocampus_2d"
medseg plan "$data/msd_hippocampus" --minutes 30 --out "$out/planned.toml"
medseg train "$out/planned.toml" --data "$data/msd_hippocampus" --fold 0 --out "$out/planned"

medseg train organs --data "$data/organs_ct" --out "$out/organs"
medseg predict "$out/organs" "$data/organs_ct/example_ct_dicom" --out "$out/organs_dicom" --overlay
medseg evaluate "$out/organs_dicom/example_ct_dicom.nii.gz" "$data/organs_ct/example_seg_dicom.nii.gz" \
    --out "$out/organs_dicom_scores"

for run in demo/run hippocampus/fold_0 hippocampus_2d planned organs; do
    python - "$out/$run/run.json" <<'END'
import json, sys
record = json.load(open(sys.argv[1]))
print(f"{sys.argv[1]}: {record['seconds'] / 60:.1f} min, {record['parameters'] / 1e6:.2f} million parameters")
END
done

python benchmarks/train.py "$out/train" --data "$data/msd_hippocampus" --peers "$peers" --minutes 12
bash benchmarks/tried.sh "$data/msd_hippocampus" "$out/tried"
python benchmarks/choices.py "$out/choices" --data "$data/msd_hippocampus" --minutes 4
