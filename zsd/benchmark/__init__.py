"""What was gained: contestants timed in turn in one run, and the quality of teacher and student on the same rows.

What it finds is one document, benchmark.json, from which `zsd.report` makes the page. Times are in seconds, memory in
MiB, shares from 0 to 1; what could not be measured is null.

``schema``, ``created``, ``zsd_version``, ``command``
    2; when; by what; the command line that measures the same again.
``machine``
    ``cpu``, ``cores``, ``memory_gb``, ``cpu_flags``, ``gpu``, ``versions``: see `zsd.machine`.
``task``
    ``labels``, ``template``, ``multi_label``, ``data``, ``gold`` (whether there were gold labels), ``teacher``,
    ``student``, ``rows`` (for quality), ``speed_rows``, ``rounds``, ``round_seconds``, ``min_agreement``, ``device``,
    ``threads``, ``mean_tokens_per_pair``, ``recipe_length`` (tokens the old recipe pads a pair to).
``contestants``
    One entry for each: see `zsd.benchmark.rows.figures`; ``speedup`` is its rows/s over those of the transformers
    pipeline.
``left_out``
    ``name`` and ``reason`` of everyone who could not run here to the end.
``peak``
    ``size`` of the square matrices multiplied between the rounds, ``operations_per_second`` by precision.
``quality``
    Teacher and student on all rows, and their agreement: see `zsd.benchmark.quality.compare`.
``ray_overhead``, ``label_job``, ``examples``
    `zsd label` against the bare engine; the figures of the label job in the same directory; rows worth reading.
"""
