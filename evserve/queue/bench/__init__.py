"""evserve and beanstalkd side by side under the same load: `python -m evserve.queue.bench`."""
