"""The I/O-model lab: measures servers that wait for input in different ways under the same load.

- options, service: the `lab` command      - models: the bundled programs, the user's own
- run: order of measurements, output       - measurement: one model at one number of connections
- claims: experiments on tutorials' claims - process, launcher: the process of a model
- results: lab.json and the machine        - report: the page with the charts

The load comes from `evserve.load`, the only other package that this one imports.

The way of a measurement:

1. `service.makeService` makes a `run.LabRun`; its `Matrix` yields models and connections in order.
2. `Matrix.skip` returns an outcome without measuring if the model broke before.
3. Otherwise `measurement.ModelRunner.measure` starts a `process.ModelProcess` through launcher.py
   and waits for "listening on".
4. `evserve.load.LoadRun.run` puts the plan of the `LoadProfile` on it, and returns a report.
5. `measurement.evaluate` turns the report and the program's last error into a `Measurement`.
6. `run.Console` prints the line; `claims.ExperimentRunner.check` answers each claim.
7. `service.ResultOutput.write` writes lab.json (`results.as_json`) and the page
   (`report.as_html`).
"""
