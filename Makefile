# Every task of the project. Environments are made on first use below .local/.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.NOTPARALLEL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
DATASET ?=
SCALE ?=
# Another DROPLENS_LOCAL and DROPLENS_PORT give a second local cloud.
DROPLENS_LOCAL ?= .local
export PYTHON DATASET DROPLENS_LOCAL SCALE

bin = .local/venv/$(1)/bin
# For programs that import the layer, which is installed in no environment.
LAYER := PYTHONPATH=.:layers/droplens
LOCALCLOUD := $(call bin,cloud)/python -m localcloud
# The command `droplens` without installing it.
DROPLENS := $(LAYER) $(call bin,cli)/python -m droplens_cli
# sam's build cache; several local clouds may share it.
SAM_CACHE ?= $(shell realpath -m -- "$(DROPLENS_LOCAL)/sam/.aws-sam/cache")
# One more than two cores: end-to-end tests mostly wait, in two of these processes.
TEST_PROCESSES ?= 3
# RECORD=1 writes date and outcome into docs/tried.json and the table of both READMEs.
RECORD ?=
JUNIT := $(if $(RECORD),--junitxml=.local/tests.xml)
export RECORD
# Further template parameters for deploy-local: PARAMETERS="MinimumAccuracy=0.9".
PARAMETERS ?=
REFERENCE := .local/reference/image-classification.json
# The saved settings of make deploy for your account; not in the repository.
ACCOUNT_CONFIG ?= samconfig.account.toml
export SAM_CLI_TELEMETRY := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Container images often set it: then every process that the tests and the local cloud start compiles all
# that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^# --- .* ---$$/ {group = $$0; gsub(/^# --- | ---$$/, "", group)}
		/^[a-z0-9-]+:.*## / && group {printf "%s%s\n", shown++ ? "\n" : "", group; group = ""}
		/^[a-z0-9-]+:.*## / && shown {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- Start here ---

# In an account: RECIPE=finetune, YES=1 without questions, MINUTES=90 as a time limit, REMOVE=stack to
# complete an interrupted removal, PARAMETERS="..." as below. exec replaces the shell, so that a signal
# to make reaches the demo, which then cleans up.
.PHONY: demo
demo: $(if $(ACCOUNT),venvs-account,venvs-cloud) ## run the whole journey here, on scanned digits or on DATASET=folder-of-class-folders; ACCOUNT=1: in your AWS account; CONSOLE=1: leave it running, with the console
	@account=()
	if [ -n "$${ACCOUNT:-}" ]; then
		config=$$(realpath -m -- "$(ACCOUNT_CONFIG)")
		account=(--account --config "$$config" --parameters "$(PARAMETERS)" $${YES:+--yes})
		account+=($${RECIPE:+--recipe "$$RECIPE"} $${MINUTES:+--minutes "$$MINUTES"})
		account+=($${REMOVE:+--remove "$$REMOVE"} $${METRICS_WAIT:+--metrics-wait "$$METRICS_WAIT"})
	fi
	export $(LAYER)
	exec $(call bin,demo)/python -m demo $${DATASET:+--dataset "$$DATASET"} "$${account[@]}"

# All environments first, since pip takes one core for each. The first listing of the tests writes their
# bytecode and that of all that they import, which each process would write by itself.
.PHONY: test
test: venvs-test lint $(REFERENCE) ## every check, and every test but the longest, as CI runs them
	@make types & checks=($$!)
	make check-template & checks+=($$!)
	$(call bin,dev)/python -m pytest --collect-only --quiet > /dev/null || true
	failed=0
	for check in "$${checks[@]}"; do wait $$check || failed=1; done
	[ $$failed = 0 ]
	$(call bin,dev)/python -m pytest --numprocesses=$(TEST_PROCESSES) --dist=loadscope \
		--no-loadscope-reorder $(JUNIT)
	if [ -n "$${RECORD:-}" ]; then $(PYTHON) -m tools.tried tests $(patsubst --junitxml=%,--junit %,$(JUNIT)); fi

.PHONY: test-long
test-long: venvs-test ## the tests that take a minute and more each, which make test leaves out
	@$(call bin,dev)/python -m pytest -m long

# --- The local cloud ---

# If .local was deleted, the environments are gone too: a process that still runs is reported before
# they are created again.
.PHONY: no-orphan
no-orphan: python
	@$(PYTHON) -m localcloud.orphans

.PHONY: up
up: no-orphan venvs-cloud ## start the local cloud on 127.0.0.1
	@$(LOCALCLOUD) up

# Our own trainer, since SageMaker's built-in algorithm runs on SageMaker only, with the recipe for a
# CPU, on demand, since a new account has no quota of spot instances. The layer is built by the
# interpreter that will run it, so that its python3.X must be first on the PATH.
# sam keeps its working files in its working directory: below DROPLENS_LOCAL, one for each local cloud.
# Its output, some 470 lines, goes to a log next to them.
.PHONY: deploy-local
deploy-local: up venvs-cli ## build the template and deploy it to the local cloud
	@eval "$$($(LOCALCLOUD) env)"
	export PATH="$(CURDIR)/$(call bin,tools):$$PATH"
	runtime=$$(python -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
	local=(--config-file "$(CURDIR)/samconfig.toml" --config-env local --parameter-overrides \
		"TrainerImage=droplens Recipe=probe UseSpot=false PythonRuntime=$$runtime $(PARAMETERS)")
	home="$(DROPLENS_LOCAL)/sam"
	mkdir -p "$$home"
	python -m tools.quiet 'building functions and layers (sam build)' --cwd "$$home" --log "$$home/build.log" \
		-- sam build --template-file "$(CURDIR)/template.yaml" --cache-dir "$(SAM_CACHE)" "$${local[@]}"
	python -m tools.quiet 'deploying (sam deploy; the first time it builds two images)' --cwd "$$home" \
		--log "$$home/deploy.log" --show '^(Successfully created.updated|No changes)' -- sam deploy "$${local[@]}" \
		--no-confirm-changeset --no-fail-on-empty-changeset --no-progressbar
	$(LAYER) $(call bin,cli)/python -m tools.outputs

.PHONY: logs
logs: venvs-cloud ## follow the logs of functions, jobs and endpoints
	@$(LOCALCLOUD) logs --follow

.PHONY: down
down: no-orphan venvs-cloud ## stop the local cloud; its state is kept for the next up
	@$(LOCALCLOUD) down

# --- A real account ---

# sam refuses a --config-file that does not exist, also with --guided: the settings are asked for and
# written first. sam keeps its working files in its working directory.
.PHONY: deploy
deploy: venvs-tools venvs-cli ## build and deploy to your AWS account; asks for settings the first time
	@export PATH="$(CURDIR)/$(call bin,tools):$$PATH"
	config=$$(realpath -m -- "$(ACCOUNT_CONFIG)")
	[ -f "$$config" ] || $(LAYER) $(call bin,cli)/python -m droplens_cli.account "$$config"
	$(DROPLENS) --config "$$config" preflight
	mkdir -p "$(DROPLENS_LOCAL)/account"
	cd "$(DROPLENS_LOCAL)/account"
	sam build --template-file "$(CURDIR)/template.yaml" --cache-dir "$(SAM_CACHE)" --config-file "$$config"
	sam deploy --config-file "$$config"

.PHONY: preflight
preflight: venvs-cli ## check whether a deployment and a first run would succeed in your AWS account: [STACK=name] [PARAMETERS="Recipe=probe"] [LOCAL=1]
	@where=(--stack droplens)
	[ ! -f "$(ACCOUNT_CONFIG)" ] || where=(--config "$(ACCOUNT_CONFIG)")
	[ -z "$${LOCAL:-}" ] || where=(--local)
	$(DROPLENS) "$${where[@]}" $${STACK:+--stack "$$STACK"} preflight $(PARAMETERS)

# Further options of the calculation: OPTIONS="--pictures 1000000"; --help lists them.
OPTIONS ?=

.PHONY: cost
cost: venvs-cli ## what it costs idle, for a training run and for 1,000 pictures, by list prices
	@$(DROPLENS) cost $(OPTIONS)

# --- A deployed stack, in your account or on this machine ---

# The command `droplens` (docs/cli.md) without installing it. A target whose name ends in -local works on
# the local cloud, the same without it on the account of `make deploy`.
AIMED = $(DROPLENS) $(if $(filter %-local,$@),--local,--config "$(ACCOUNT_CONFIG)")
needs_classifier = [ -n "$${CLASSIFIER:-}" ] || { echo 'which classifier? make $@ CLASSIFIER=cars'; exit 2; }

.PHONY: status status-local
status: venvs-cli ## classifiers, live models, newest runs, waiting pictures and queues, in your AWS account
status-local: venvs-cli ## as status, on the local cloud
status status-local:
	@$(AIMED) status

.PHONY: console console-local
console: venvs-cli ## the console of the stack in your AWS account, in your browser: [PORT=8000] [NO_BROWSER=1]
console-local: venvs-cli ## as console, on the local cloud
console console-local:
	@$(AIMED) console $${PORT:+--port "$$PORT"} $${NO_BROWSER:+--no-browser}

.PHONY: rollback rollback-local
rollback: venvs-cli ## roll back to an earlier model, in your AWS account: CLASSIFIER=cars [RUN=...] [RECLASSIFY=all|unsure|none] [YES=1]
rollback-local: venvs-cli ## as rollback, on the local cloud
rollback rollback-local:
	@$(needs_classifier)
	$(AIMED) rollback "$$CLASSIFIER" $${RUN:+--run "$$RUN"} $${RECLASSIFY:+--reclassify "$$RECLASSIFY"} $${YES:+--yes}

.PHONY: resume resume-local
resume: venvs-cli ## retry now a run that waits for a quota or capacity, in your AWS account: CLASSIFIER=cars [RUN=...]
resume-local: venvs-cli ## as resume, on the local cloud
resume resume-local:
	@$(needs_classifier)
	$(AIMED) resume "$$CLASSIFIER" $${RUN:+--run "$$RUN"}

.PHONY: redrive redrive-local
redrive: venvs-cli ## return pictures from the dead-letter queue to their queue, in your AWS account
redrive-local: venvs-cli ## as redrive, on the local cloud
redrive redrive-local:
	@$(AIMED) redrive

.PHONY: destroy destroy-local
destroy: venvs-cli ## remove the stack in your AWS account and everything it created: [STACK=name] [YES=1]
destroy-local: venvs-cli ## as destroy, on the local cloud: [YES=1]
destroy destroy-local:
	@$(AIMED) $${STACK:+--stack "$$STACK"} destroy $${YES:+--yes}

# --- For an editor ---

# Editors look for .venv, and use its mypy, ruff and pytest. With HOOK=1, git runs
# .pre-commit-config.yaml before each commit of this clone and of all worktrees that share it.
.PHONY: setup
setup: python ## create the environment that editors find as .venv; HOOK=1: check before each commit, by pre-commit
	@$(PYTHON) tools/venvs.py dev $${HOOK:+hooks}
	[ -L .venv ] || [ ! -e .venv ] || { echo ".venv is no link: remove or rename it first"; exit 1; }
	ln -sfn $(dir $(call bin,dev)) .venv
	if [ -n "$${HOOK:-}" ]; then $(call bin,hooks)/pre-commit install; fi

# --- Checks and tests ---

.PHONY: format
format: venvs-dev ## rewrite the sources in the project's format, with ruff's safe fixes
	@$(call bin,dev)/ruff format -q
	$(call bin,dev)/ruff check -q --fix

.PHONY: lint
lint: venvs-dev ## check format and lint rules (ruff)
	@$(call bin,dev)/ruff format --check -q
	$(call bin,dev)/ruff check -q
	echo "lint: no findings"

# (On an error mypy would list all 400 overloads of boto3's clients.)
.PHONY: types
types: venvs-dev ## check types (mypy, strict)
	@$(call bin,dev)/mypy $(wildcard layers/droplens/droplens functions batch_prep trainer \
		localcloud demo droplens_cli droplens_console benchmarks tools tests) | sed '/note:     def client(/d'

# WS1004 looks for log groups by name and does not know LoggingConfig, by which ours are given, and
# WS1000 knows no condition (in China there is no tracing); tests/infrastructure holds every function
# to a log group with a retention, and to tracing. W1100 refuses the merges of YAML's, which sam writes
# out before CloudFormation reads the template, as tests/infrastructure holds too (cfn-lint itself
# accepts aliases in SAM templates, W1101). What checkov skips, and why, is in .checkov.yaml.
TEMPLATE ?= template.yaml
.PHONY: check-template
check-template: venvs-checkers ## check template.yaml as written and as SAM expands it
	@export PATH="$(CURDIR)/$(call bin,tools):$$PATH" AWS_DEFAULT_REGION=us-east-1
	expanded=.local/template/$$(basename $(TEMPLATE) .yaml).json
	mkdir -p .local/template
	python tools/expand_template.py $(TEMPLATE) > $$expanded
	cfn-lint --append-rules cfn_lint_serverless.rules --ignore-checks WS1000 WS1004 W1100 \
		--template $(TEMPLATE) & checks=($$!)
	cfn-lint --template $$expanded & checks+=($$!)
	$(call bin,checkov)/python -m checkov.main --config-file .checkov.yaml -f $$expanded & checks+=($$!)
	failed=0
	for check in "$${checks[@]}"; do wait $$check || failed=1; done
	[ $$failed = 0 ] && echo "check-template: no findings"

# Not part of make test: a new vulnerability is not caused by the change under test, and it needs osv.dev.
.PHONY: audit
audit: venvs-audit venvs-dev ## list the libraries in the locked wheels; look up vulnerabilities in osv.dev
	@$(call bin,dev)/python -m tools.bundled
	$(call bin,audit)/python -m tools.audit

.PHONY: unit integration infrastructure e2e containers
unit: venvs-dev $(REFERENCE) ## tests of single modules, in two processes
	@$(call bin,dev)/python -m pytest --numprocesses=2 --dist=loadscope tests/unit
integration: venvs-test ## tests of parts together, with real servers on this machine
	@$(call bin,dev)/python -m pytest tests/integration
infrastructure: venvs-test ## tests of the template
	@$(call bin,dev)/python -m pytest tests/infrastructure
e2e: venvs-test ## tests of the whole journey in a local cloud of their own
	@$(call bin,dev)/python -m pytest tests/e2e
containers: venvs-dev ## build the real images and run them as AWS does; needs Docker, or Podman as root
	@$(call bin,dev)/python -m pytest tests/containers $(JUNIT)
	if [ -n "$${RECORD:-}" ]; then $(PYTHON) -m tools.tried containers $(patsubst --junitxml=%,--junit %,$(JUNIT)); fi

MINUTES ?= 10
# FUZZ="--target tar --start 100000" for one target and other mutants.
FUZZ ?=
.PHONY: fuzz
fuzz: venvs-dev ## fuzz the parsers of untrusted bytes, for longer than make test does: MINUTES=10
	@$(LAYER) $(call bin,dev)/python -m tests.fuzz --minutes $(MINUTES) $(FUZZ)

# --- Benchmarks ---

.PHONY: bench-packing
bench-packing: python ## pack the same pictures as notebooks do and by batch_prep; SCALE=1,20 measures memory
	@$(PYTHON) tools/venvs.py dev im2rec
	$(LAYER) $(call bin,dev)/python -m benchmarks.packing \
		$${SCALE:+--scale "$$SCALE"}

.PHONY: bench-classify
bench-classify: venvs-cloud venvs-dev ## classify_image against a bare handler, under load, and in both modes; PICTURES=10000, MODES=1 for the last alone
	@$(LAYER) $(call bin,dev)/python -m benchmarks.classify \
		$${PICTURES:+--pictures "$$PICTURES"} $${MODES:+--modes-only}

.PHONY: bench-trust
bench-trust: venvs-dev ## what a model does not know: calibration, foreign pictures, wrong labels; REPEATS=2 for a quick look
	@$(PYTHON) tools/venvs.py cleanlab demo
	$(LAYER) $(call bin,dev)/python -m benchmarks.trust \
		$${REPEATS:+--repeats "$$REPEATS"}

.PHONY: bench-inference
bench-inference: venvs-dev ## batch inference of 10,000 images with an interruption, and a listing of a million keys; IMAGES=3000 for a quick look
	$(LAYER) $(call bin,dev)/python -m benchmarks.inference \
		$${IMAGES:+--images "$$IMAGES"} $${KEYS:+--keys "$$KEYS"}

# BLAS has one thread, as in the trainer: several wait for each other on matrices of this size.
.PHONY: bench-review
bench-review: venvs-dev ## labels that people have to give, by the order of the review queue; SPLITS=1 for a quick look
	@$(PYTHON) tools/venvs.py demo
	OPENBLAS_NUM_THREADS=1 $(LAYER) $(call bin,dev)/python -m benchmarks.review $${SPLITS:+--splits "$$SPLITS"}

.PHONY: bench-probe
bench-probe: python ## recipe probe on 196 car models, on the CPU, next to baselines; SPLITS=1 PICTURES=600 for a quick look
	@$(PYTHON) tools/venvs.py dev mxnet
	$(LAYER) $(call bin,dev)/python -m benchmarks.training.probe \
		$${SPLITS:+--splits "$$SPLITS"} $${PICTURES:+--pictures "$$PICTURES"}

.PHONY: bench-backbones
bench-backbones: venvs-dev ## the packaged networks next to each other, by recipe probe; SPLITS=1 for a quick look
	@$(PYTHON) tools/venvs.py demo
	$(LAYER) $(call bin,dev)/python -m benchmarks.backbones $${SPLITS:+--splits "$$SPLITS"}

# A machine with a GPU often has its own PyTorch: TORCH_PYTHON=python3 uses that interpreter's.
.PHONY: bench-growth
bench-growth: venvs-dev ## seconds and memory of probe's head by the number of records; RECORDS="6509 20000" for a quick look
	@$(LAYER) $(call bin,dev)/python -m benchmarks.training.growth $${RECORDS:+--records $${RECORDS}}

.PHONY: bench-training
bench-training: python ## fine-tune next to a plain loop, on a GPU if there is one; PICTURES=400 for a quick look
	@if [ -z "$${TORCH_PYTHON:-}" ]; then $(PYTHON) tools/venvs.py torch; fi
	$(LAYER) "$${TORCH_PYTHON:-$(call bin,torch)/python}" \
		-m benchmarks.training $${PICTURES:+--pictures "$$PICTURES"} \
		$${EPOCHS:+--epochs "$$EPOCHS"} $${PLAIN_EPOCHS:+--plain-epochs "$$PLAIN_EPOCHS"} \
		$${SHAPE:+--shape "$$SHAPE"}
	if [ -n "$${RECORD:-}" ]; then
		gpu=$$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
		$(PYTHON) -m tools.tried gpu "$$gpu"
	fi

.PHONY: bench-finetune
bench-finetune: python ## finetune on the CPU, with batch norms folded and trained; SPLITS=1 for a quick look
	@if [ -z "$${TORCH_PYTHON:-}" ]; then $(PYTHON) tools/venvs.py torch; fi
	$(LAYER) "$${TORCH_PYTHON:-$(call bin,torch)/python}" \
		-m benchmarks.training.comparison $${SPLITS:+--splits "$$SPLITS"}

.PHONY: bench-serving
bench-serving: venvs-dev ## the serving container next to bare ONNX Runtime; ROUNDS=3 for a quick look
	@$(LAYER) $(call bin,dev)/python -m benchmarks.serving \
		$${ROUNDS:+--rounds "$$ROUNDS"}

.PHONY: bench-console
bench-console: venvs-cloud venvs-dev ## pictures reviewed a minute, and the gallery at 100,000 results; RESULTS=10000 for a quick look
	@$(LAYER) $(call bin,dev)/python -m benchmarks.console \
		$${IMAGES:+--images "$$IMAGES"} $${RESULTS:+--results "$$RESULTS"}

.PHONY: bench-join
bench-join: venvs-dev ## memory of the merge of packed shards per picture: PICTURES=300000,900000
	@$(LAYER) $(call bin,dev)/python -m benchmarks.packing.join_memory \
		$${PICTURES:+--pictures "$$PICTURES"}

.PHONY: mutants
mutants: venvs-dev ## mutation tests of the modules that make decisions: MINUTES=10 MODULES="plan runs" KEEP=1 SEED=1
	@$(LAYER) $(call bin,dev)/python -m benchmarks.mutants \
		$${MINUTES:+--minutes "$$MINUTES"} $${MODULES:+--modules $$MODULES} \
		$${SEED:+--seed "$$SEED"} $${KEEP:+--keep}

# --- Documents ---

.PHONY: docs
docs: venvs-dev ## render README*.md and docs/*.md from docs/source; CHECK=1 only compares
	@$(LAYER) $(call bin,dev)/python -m tools.docs $${CHECK:+--check}

SCREENSHOTS := .local/screenshots

.PHONY: screenshots
screenshots: venvs-test ## the README's screenshots of the console, by its end-to-end test in Chromium
	@DROPLENS_SCREENSHOTS=$(SCREENSHOTS) $(call bin,dev)/python -m pytest -q tests/e2e/test_console.py
	$(call bin,dev)/python -m tools.screenshots $(SCREENSHOTS)

# --- Locks and data made from elsewhere ---

.PHONY: lock
lock: venvs-lock ## regenerate every lock from its .in file; UPGRADE=1 takes newer indirect packages
	@for source in $$(git ls-files -co --exclude-standard '*.in'); do \
		echo "  $$source"; \
		options=$$(sed -n 's/^# uv: //p' $$source); \
		(cd $$(dirname $$source) && "$(CURDIR)/$(call bin,lock)/uv" pip compile -q --no-config \
			--universal --python-version 3.11 --generate-hashes --no-strip-extras \
			--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
			$(if $(UPGRADE),--upgrade) $$options \
			$$(basename $$source) -o $$(basename $$source .in).txt); \
	done

.PHONY: base-digest
base-digest: python ## the newest digest of the images' base from its registry; CHECK=1 only compares
	@$(PYTHON) -m tools.base_digest $${CHECK:+--check}

.PHONY: freeze-interface
freeze-interface: venvs-dev ## the template's parameters and outputs change on purpose: keep the new ones
	@$(call bin,dev)/python -m tools.template_interface > tests/infrastructure/interface.json

# Not part of lock: only PyTorch's own index, or a folder of its wheels, has the CPU build.
.PHONY: lock-torch-cpu
lock-torch-cpu: venvs-lock ## regenerate the lock of the tests' PyTorch: WHEELS=folder or page of CPU wheels
	@[ -n "$${WHEELS:-}" ] || { echo 'where are they? make lock-torch-cpu WHEELS=...'; exit 2; }
	cd trainer
	cat requirements-finetune.in requirements-timm.in | \
		sed 's/^torch==.*/&+cpu/; /^-r requirements-finetune.in/d' | "$(CURDIR)/$(call bin,lock)/uv" pip compile -q \
		--no-config --find-links "$$WHEELS" --universal --python-version 3.11 --generate-hashes \
		--no-strip-extras --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock-torch-cpu WHEELS=..." \
		- -o ../tests/requirements-torch.txt

.PHONY: builtin-registry
builtin-registry: $(REFERENCE) ## regenerate the registry map of SageMaker's built-in algorithm
	@$(PYTHON) tools/builtin_registry.py write $(REFERENCE)

.PHONY: deployer-policy
deployer-policy: venvs-dev ## regenerate docs/deployer-policy.json from the template
	@$(LAYER) $(call bin,dev)/python -m droplens_cli.preflight.policy > docs/deployer-policy.json

.PHONY: regions
regions: venvs-tools ## regenerate the list of AWS offerings by region, from botocore's and cfn-lint's data
	@$(call bin,tools)/python -m tools.regions

$(REFERENCE): requirements/sagemaker-reference.txt tools/builtin_registry.py
	@$(PYTHON) tools/builtin_registry.py fetch $@

.PHONY: clean
clean: ## remove everything built or cached; the local cloud must be down
	@if [ -x $(call bin,cloud)/python ]; then $(LOCALCLOUD) down; fi
	rm -rf .local .venv .aws-sam .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Environments ---

.PHONY: python
python:
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) is not found: name one by PYTHON=..."; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V 2>&1): Droplens runs on Python 3.11 to 3.13," \
			"name one by PYTHON=..."; exit 1; }

.PHONY: venvs-account venvs-audit venvs-cli venvs-dev venvs-tools venvs-lock venvs-checkers venvs-cloud venvs-test
venvs-audit venvs-cli venvs-dev venvs-tools venvs-lock: venvs-%: python
	@$(PYTHON) tools/venvs.py $*
venvs-checkers: python
	@$(PYTHON) tools/venvs.py checkov tools
venvs-account: python
	@$(PYTHON) tools/venvs.py cli demo tools
venvs-cloud: python
	@$(PYTHON) tools/venvs.py cloud demo lambda tools
venvs-test: python
	@$(PYTHON) tools/venvs.py audit checkov cli cloud dev lambda mxnet tools torch
