"""evserve and beanstalkd side by side under the same load: `python -m benchmarks.queue`."""
