PYTHON ?= python3

.PHONY: demo test docs clean

# The device install with the page: no TensorFlow.
demo: .venv-demo/installed
	.venv-demo/bin/edgecell run demo
	@echo "To review these cells in a browser: .venv-demo/bin/edgecell page"

test: .venv/installed .venv-tflite-runtime/installed
	scripts/check

# The API reference, from the docstrings: what `import edgecell` offers, then all rooms. A
# warning is an error. The jobs are left out, because they import PyTorch.
docs: .venv/installed
	TF_CPP_MIN_LOG_LEVEL=3 .venv/bin/python -W error -m pdoc --docformat google --no-show-source \
	  --output-directory build/docs edgecell $(addprefix edgecell.,api benchmarks classes \
	  convert data edge errors explain image model morphology train) \
	  '!edgecell.train.job' '!edgecell.train.job.networks' '!edgecell.train.find'

.venv-demo/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet --disable-pip-version-check -e ".[page]"
	touch $@

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

# The older runtime needs numpy 1, so it has an environment of its own. It has
# wheels up to Python 3.11; where it can't be installed its tests are skipped.
.venv-tflite-runtime/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-tflite-runtime
	-.venv-tflite-runtime/bin/python -m pip install --quiet --disable-pip-version-check \
	  tflite-runtime==2.14.0 "numpy<2" "opencv-python-headless<4.12" tflite tqdm click pillow
	touch $@

clean:
	rm -rf .venv .venv-demo .venv-tflite-runtime build *.egg-info
